# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the vccid package is and which commands it installs."""

import pathlib
import re

from setuptools import find_packages, setup

INIT = pathlib.Path(__file__).with_name("vccid") / "__init__.py"
VERSION = re.search(r'__version__ = "(.+)"', INIT.read_text())
assert VERSION is not None

setup(
    name="vccid",
    version=VERSION.group(1),
    description="A virtual smart card reader and CAC card",
    license="LGPL-2.1-or-later",
    python_requires=">=3.11",
    packages=find_packages(include=["vccid", "vccid.*"]),
    package_data={"vccid": ["py.typed", "wire/*.varlink"]},
    install_requires=["cryptography>=38", "click>=8.1", "rich>=13", "sdnotify>=0.3"],
    extras_require={
        "hardware": ["pyscard>=2.0"],
        "mount": ["pyfuse3>=3.2"],
        "speed": ["uvloop>=0.17"],
    },
    entry_points={
        "console_scripts": [
            "vccid = vccid.run.main:main",
            "vccidctl = vccid.ctl.main:main",
        ]
    },
)
