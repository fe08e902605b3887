"""Does the encoder of a run know the geometry? R² of x, y, z from its vectors of the sensors, beside random ones.

python benchmarks/sensor_probe.py runs/polarbert [--data data/telescope] [--events 10000]
"""

from __future__ import annotations

import argparse

import numpy as np

from multiplet.data.events import Events
from multiplet.evaluation.sensor_probe import linear_r2, sensor_places, sensor_probe
from multiplet.recipe import open_run

AXES = ("x", "y", "z")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--data", help="a folder of event files; that of the run where not given")
    parser.add_argument("--events", type=int, default=10_000, help="training events to see sensors in")
    given = parser.parse_args()
    opened = open_run(given.run)
    vectors = opened.model().encoder.embed["id_sensor_id"].weight
    dataset = (Events(given.data) if given.data else opened.recipe.data.whole()).open()
    places = sensor_places(dataset, "sensor_id", AXES, len(vectors), given.events)
    seen = places[np.isfinite(places).all(1)]
    random = linear_r2(np.random.default_rng(0).normal(size=(len(seen), vectors.shape[1])), seen)
    learned = sensor_probe(given.run, given.data, events=given.events)
    print(f"{len(seen)} of {len(vectors)} sensors seen; R² for sensors left out of the fit, five folds")
    print("| vectors | " + " | ".join(AXES) + " |\n|---|---|---|---|")
    print(f"| {given.run} | " + " | ".join(f"{learned[axis]:.3f}" for axis in AXES) + " |")
    print("| random | " + " | ".join(f"{value:.3f}" for value in random) + " |")


if __name__ == "__main__":
    main()
