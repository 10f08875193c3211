"""Peak memory of scoring 50 and 2,000 paths, each in its own process."""

import resource
import subprocess
import sys
from itertools import cycle, islice

from _common import parser

from skanomaly import PatchCore
from skanomaly.datasets import load_mvtec


def peak_after_scoring(options):
    data = load_mvtec(options.data / "mvtec_screw")
    detector = PatchCore(random_state=0, coreset_ratio=0.1).fit(data.X_train[:20])
    detector.score_samples(list(islice(cycle(data.X_test), options.paths)))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main():
    options = parser(__doc__)
    options.add_argument("--paths", type=int)
    options = options.parse_args()
    if options.paths:
        peak_after_scoring(options)
        return
    command = [sys.executable, __file__, "--data", options.data, "--paths"]
    peaks = [float(subprocess.check_output([*command, str(n)]).split()[-1]) for n in (50, 2000)]
    print(f"peak MiB: 50 paths {peaks[0]:.0f}, 2,000 paths {peaks[1]:.0f}, difference {peaks[1] - peaks[0]:.0f}")


if __name__ == "__main__":
    main()
