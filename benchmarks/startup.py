"""How long `import cian` and `cian --help` take, and that they import no torch.

python benchmarks/startup.py [--repetitions 7]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from figures import figure

MOST = 0.5  # seconds
COMMANDS = {
    "python alone": ["-c", "pass"],
    "import cian": ["-c", "import cian"],
    "cian --help": ["-m", "cian", "--help"],
    "cian run --help": ["-m", "cian", "run", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(options.repetitions):
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            times[name].append(time.perf_counter() - start)
    for name, arguments in COMMANDS.items():
        log = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True).stderr
        torch = any(line.split("|")[-1].strip() == "torch" for line in log.splitlines())
        if torch:
            raise SystemExit(f"{name} imports torch")
        figure(f"`{name}`" if "cian" in name else name, times[name], "s", most=MOST if "cian" in name else None)


if __name__ == "__main__":
    main()
