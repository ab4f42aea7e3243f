# SPDX-License-Identifier: LGPL-2.1-or-later
"""vccid-pcscd: pcscd's driver for vccid's readers in a wheel, which `./dev dist` builds.

It is C and of one processor, so vccid itself stays pure Python. No Python is linked to it: one
wheel serves every version.
"""

import pathlib
import re

from setuptools import Distribution, setup
from wheel.bdist_wheel import bdist_wheel

INIT = pathlib.Path(__file__).resolve().parents[2] / "vccid/__init__.py"
VERSION = re.search(r'__version__ = "(.+)"', INIT.read_text())
assert VERSION is not None


class WithDriver(Distribution):
    """Is of one kind of machine, though nothing is compiled here."""

    def has_ext_modules(self) -> bool:
        return True


class AnyPython(bdist_wheel):
    """Keeps the platform's tag and drops that of the interpreter."""

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])


setup(
    name="vccid-pcscd",
    version=VERSION.group(1),
    description="pcscd's driver for the virtual smart card readers of vccid",
    long_description="`pip install 'vccid[pcscd]'` has it for `vccid run --pcscd`; for a pcscd of"
    " the system, `LIBPATH` of reader.conf(5) is `vccid_pcscd.DRIVER`.",
    long_description_content_type="text/markdown",
    license="LGPL-2.1-or-later",
    python_requires=">=3.11",
    packages=["vccid_pcscd"],
    package_data={"vccid_pcscd": ["libifdvccid.so"]},
    cmdclass={"bdist_wheel": AnyPython},
    distclass=WithDriver,
)
