"""The columns of neutrino-telescope events: one layout for the simulation and for every reader.

A point is a pulse: what one optical sensor saw at one time. Directions say where the neutrino came from:
n = (cos azimuth sin zenith, sin azimuth sin zenith, cos zenith), z up.
"""

from __future__ import annotations

from multiplet.data.columns import Column

INTERACTIONS = ("track", "cascade", "neutral_current")  # muon-neutrino charged current, electron-neutrino, any neutral

PULSES = (
    Column("sensor_id", dtype="int32", about="of the optical sensor, from 0 on"),
    Column("time", "ns", about="in the event's window, whole up to 2^24; only differences are physical"),
    Column("charge", "p.e."),
    Column("auxiliary", dtype="int8", about="1 where no neighbour on the string saw light with it: mostly noise"),
    Column("x", "m", about="where the sensor is, from the middle of the telescope"),
    Column("y", "m", about="where the sensor is"),
    Column("z", "m", about="where the sensor is, upwards"),
)

DIRECTION = (
    Column("azimuth", "rad", "event", True, about="of where the neutrino came from, in [0, 2π)"),
    Column("zenith", "rad", "event", True, about="of where the neutrino came from, in [0, π]"),
)

SIMULATED = (
    Column("energy", "GeV", "event", True, about="of the neutrino"),
    Column("interaction", "", "event", True, "int8", INTERACTIONS),
    Column("vertex_x", "m", "event", True),
    Column("vertex_y", "m", "event", True),
    Column("vertex_z", "m", "event", True),
)
