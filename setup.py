"""Maps the top-level folders configs/, assets/ and docs/ into the package of a wheel; all metadata is in setup.cfg."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithData(build_py):
    """Copies the data folders beside the modules, where the installed package looks for them."""

    def run(self) -> None:
        super().run()
        for folder in ("configs", "assets", "docs"):
            target = Path(self.build_lib) / "moe_hub" / folder
            if Path(folder).is_dir() and not self.editable_mode:
                ignore = shutil.ignore_patterns("*.py", "__pycache__")
                shutil.copytree(folder, target, dirs_exist_ok=True, ignore=ignore)


setup(cmdclass={"build_py": BuildWithData})
