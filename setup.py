# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the vccid package is and which commands it installs."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
# The one place that names the version; tests/unit/test_version.py holds the others to it.
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "vccid/__init__.py").read_text())
assert VERSION is not None

setup(
    name="vccid",
    version=VERSION.group(1),
    description="A virtual smart card reader and CAC or PIV card",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="LGPL-2.1-or-later",
    keywords="smart card, PC/SC, PKCS#11, CAC, PIV, CCID, testing",
    classifiers=[
        "Environment :: Console",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Security :: Cryptography",
        "Topic :: Software Development :: Testing",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["vccid", "vccid.*"]),
    package_data={"vccid": ["py.typed", "wire/*.varlink"]},
    install_requires=["cryptography>=38", "click>=8.1", "rich>=13", "sdnotify>=0.3"],
    extras_require={
        "hardware": ["pyscard>=2.0"],
        "mount": ["pyfuse3>=3.2"],
        "pcscd": [f"vccid-pcscd=={VERSION.group(1)}"],
        "speed": ["uvloop>=0.17"],
    },
    entry_points={
        "console_scripts": [
            "vccid = vccid.run.main:main",
            "vccidctl = vccid.ctl.main:main",
        ]
    },
)
