"""A sample of telescope events beside published numbers, as a table.

    python benchmarks/telescope_sample.py data/telescope

The published numbers are of the data of Kaggle's "IceCube – Neutrinos in Deep Ice", as its page and public notebooks
give them. The last rows say what masked sensors cost without learning, on 3000 events: a quarter of the pulses that
are not auxiliary are hidden, and their sensor is guessed from how often each occurs, or from the visible pulses close
in time, spread over their neighbours on the string. The last row makes 2000 events and needs no file.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from multiplet.data.arrow import read_events
from multiplet.data.columns import Columns, concatenate
from multiplet.data.orientation import light_direction
from multiplet.simulation.telescope import Telescope

SENSORS, PER_STRING = 5160, 60
HIDE = 0.25
SPREAD = {0: 0.30, 1: 0.20, 2: 0.08, 3: 0.045}  # over places on the string, to either side; the rest is uniform
FADE, FLOOR = 400.0, 1e-3  # ns; weight of a pulse at another time
AT_ONCE = 200  # hidden pulses


def counts(events: Columns) -> list[tuple[str, str, str]]:
    """What is counted in a sample: name, published, here."""
    pulses, value = np.diff(events.offsets), events.values
    event = np.repeat(np.arange(len(events)), pulses)
    sensor, of_sensor = np.unique(event * SENSORS + value["sensor_id"], return_counts=True)
    sensors = np.bincount(sensor // SENSORS)
    first, last = value["time"][events.offsets[:-1]], value["time"][events.offsets[1:] - 1]
    span, charge = last - first, np.bincount(event, value["charge"])
    good = np.bincount(event, value["auxiliary"] == 0)
    track = (value["interaction"] == 0) & (good >= 30)
    q = (0.25, 0.5, 0.75)
    return [
        ("pulses an event, quartiles", "48 / 63 / 89", _numbers(np.quantile(pulses, q))),
        ("… 80 %, 90 %", "100 / 144", _numbers(np.quantile(pulses, (0.8, 0.9)))),
        ("… mean, 99 %", "164 / ≈ 1000", _numbers([pulses.mean(), np.quantile(pulses, 0.99)])),
        ("… most", "178250", f"{pulses.max()}"),
        ("events with more than 127 pulses", "0.12–0.13", f"{(pulses > 127).mean():.3f}"),
        ("auxiliary share, mean of events", "0.640", f"{(1 - good / pulses).mean():.3f}"),
        ("sensors an event, mean, median", "60 / 50", _numbers([sensors.mean(), np.median(sensors)])),
        ("sensors with one pulse", "0.78", f"{(of_sensor == 1).mean():.3f}"),
        ("first pulse, quartiles (ns)", "5973 / 6129 / 6405", _numbers(np.quantile(first, q))),
        ("span, mean, sd (ns)", "11648 / 2589", _numbers([span.mean(), span.std()])),
        ("pulse time, quartiles (ns)", "10566 / 11815 / 13916", _numbers(np.quantile(value["time"], q))),
        ("charge, quartiles (p.e.)", "0.775 / 1.075 / 1.775", _numbers(np.quantile(value["charge"], q), 3)),
        ("charge, mean, most (p.e.)", "3.9 / 2762", _numbers([value["charge"].mean(), value["charge"].max()], 1)),
        ("charge of an event, mean (p.e.)", "596", f"{charge.mean():.0f}"),
        ("zenith, mean, sd (rad)", "1.534 / 0.690", _numbers([value["zenith"].mean(), value["zenith"].std()], 3)),
        ("variance of log10 charge", "", f"{np.log10(charge).var():.4f}"),
        ("tracks, cascades, neutral currents", "", _numbers(np.bincount(value["interaction"]) / len(events), 3)),
        ("light away from the origin, bright tracks", "", f"{(light_direction(events)[track] < 0).mean():.3f}"),
    ]


def _numbers(values: np.ndarray | list[float], digits: int = 0) -> str:
    return " / ".join(f"{value:.{digits}f}" for value in values)


def references(events: Columns, seed: int) -> list[tuple[str, str, str]]:
    """Cross-entropy (nats) of hidden sensors, mean inside the event and then over events."""
    rng, value = np.random.default_rng(seed), events.values
    sensor = value["sensor_id"].astype(np.int64)
    hidden = (value["auxiliary"] == 0) & (rng.random(len(sensor)) < HIDE)
    visible = (value["auxiliary"] == 0) & ~hidden
    often = np.bincount(sensor[hidden], minlength=SENSORS) + 1.0
    unigram, kernel, top = [], [], []
    for start, stop in zip(events.offsets, events.offsets[1:], strict=False):
        masked, seen = (start + np.flatnonzero(part[start:stop]) for part in (hidden, visible))
        if len(masked):
            unigram.append(-np.log(often / often.sum())[sensor[masked]].mean())
            loss, right = _guess(sensor, value["time"], masked, seen)
            kernel.append(loss.mean())
            top.append(right.mean())
    none = 1 - len(kernel) / len(events)
    losses = _numbers([np.mean(kernel), np.median(kernel)], 3)
    return [
        ("hidden sensor by how often it occurs", "", f"{np.mean(unigram):.3f}"),
        ("… by pulses close in time: mean, median", "", losses),
        ("… the likeliest is right", "", f"{np.mean(top):.3f}"),
        ("events without a hidden pulse", "", f"{none:.3f}"),
    ]


def _guess(sensor: np.ndarray, when: np.ndarray, masked: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of hidden pulses: -log of the chance given to their sensor, and whether it is the likeliest."""
    uniform = 1 - SPREAD[0] - 2 * sum(share for away, share in SPREAD.items() if away)
    losses, right = [], []
    for part in np.split(masked, range(AT_ONCE, len(masked), AT_ONCE)):
        chance = np.full((len(part), SENSORS), uniform / SENSORS)
        weight = np.exp(-np.abs(when[part, None] - when[None, seen]) / FADE) + FLOOR
        weight /= weight.sum(1, keepdims=True)
        which, code = np.unique(sensor[seen], return_inverse=True)
        at = np.zeros((len(seen), len(which)))
        at[np.arange(len(seen)), code] = 1
        of_sensor = weight @ at
        for away, share in SPREAD.items():
            for step in {away, -away}:
                inside = which // PER_STRING == (which + step) // PER_STRING
                chance[:, which[inside] + step] += share * of_sensor[:, inside]
        losses.append(-np.log(chance[np.arange(len(part)), sensor[part]]))
        right.append(chance.argmax(1) == sensor[part])
    return np.concatenate(losses), np.concatenate(right)


def speed() -> list[tuple[str, str, str]]:
    """Events a second of one core, by processor time."""
    telescope = Telescope()
    telescope.block("neutrinos", 0, 1, 100)  # the table of light is made once
    start = time.process_time()
    for number in range(20):
        telescope.block("neutrinos", number, 1, 100)
    return [("triggered events a second and core", "", f"{2000 / (time.process_time() - start):.0f}")]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    events = concatenate([read_events(path) for path in sorted((folder / "train").glob("*.arrow"))])
    few = events.take(np.arange(min(3000, len(events))))
    print(f"| {len(events)} events | published | here |\n|---|---|---|")
    for row in (*counts(events), *references(few, 1), *speed()):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
