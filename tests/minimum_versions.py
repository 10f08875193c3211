"""Print the oldest supported version of every dependency, as constraints for pip; see `make test-minimum`."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for requirement in [*project["dependencies"], *extras["plot"], *extras["approximate"]]:
    print(re.sub(">=", "==", requirement))
