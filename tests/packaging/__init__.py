# SPDX-License-Identifier: LGPL-2.1-or-later
"""What others get: from pip, in an image, by a GitHub action, as RPM and for Arch."""
