"""Run every Python example of the given Markdown files, each by itself."""

import re
import subprocess
import sys
from pathlib import Path

for name in sys.argv[1:]:
    for number, code in enumerate(
        re.findall(r"^```python\n(.*?)^```", Path(name).read_text(), re.DOTALL | re.MULTILINE), 1
    ):
        print(f"example {number} of {name}", flush=True)
        subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
