"""What a jet may come from: resonances and their decay products in Pythia's event record (numba).

Matching follows JetClass: quarks and gluons count as they leave the decay, leptons after they have radiated, neutrinos
not at all.
"""

from __future__ import annotations

import numpy as np

from multiplet.simulation.compiled import compiled

PARTNERS = 2  # the hard process makes two particles; each may be a jet
PRODUCTS = 4  # a jet holds at most so many quarks, gluons and leptons
# Columns of a candidate: pT, η, φ, PDG id of the parent, JetClass's code of the match, then η, φ of each product.
PT, ETA, PHI, PID, CODE, DIRECTIONS = range(6)
WIDTH = DIRECTIONS + 2 * PRODUCTS


@compiled
def _daughters(i: int, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Positions of the daughters of a particle in Pythia's record (its manual, page Particle Properties)."""
    if first[i] == 0:
        return np.empty(0, np.int64)
    if last[i] == 0 or last[i] == first[i]:
        return np.array([first[i]], np.int64)
    if last[i] > first[i]:
        return np.arange(first[i], last[i] + 1)
    return np.array([last[i], first[i]], np.int64)


@compiled
def _final(i: int, pid: np.ndarray, first: np.ndarray, last: np.ndarray) -> int:
    """The last copy of a particle before it decays."""
    while True:
        copy = -1
        for j in _daughters(i, first, last):
            if pid[j] == pid[i]:
                copy = j
                break
        if copy < 0:
            return i
        i = copy


@compiled
def _unsplit(i: int, first: np.ndarray, last: np.ndarray, pid: np.ndarray) -> int:
    """The last copy of a parton before it radiates."""
    while True:
        copies = _daughters(i, first, last)
        if len(copies) != 1 or pid[copies[0]] != pid[i]:
            return i
        i = copies[0]


@compiled
def _direction(p: np.ndarray) -> tuple[float, float]:
    return np.arcsinh(p[2] / np.hypot(p[0], p[1])), np.arctan2(p[1], p[0])


@compiled
def _products(
    i: int, pid: np.ndarray, first: np.ndarray, last: np.ndarray, momenta: np.ndarray, out: np.ndarray
) -> tuple[int, int, int]:
    """Fill the directions of what a resonance decays to; gives (quarks and gluons, leptons, what _code asks for).

    The last is the lepton's kind where there is one, else the heaviest flavour, not counting the b of a top.
    """
    partons, leptons, flavour, lepton = 0, 0, 0, 0
    stack, depth = np.empty(16, np.int64), 1
    stack[0] = i
    while depth > 0:
        depth -= 1
        for j in _daughters(_final(stack[depth], pid, first, last), first, last):
            kind = abs(pid[j])
            if kind in (23, 24):
                stack[depth] = j
                depth += 1
            elif kind in (1, 2, 3, 4, 5, 21, 11, 13) and partons + leptons < PRODUCTS:
                at = _final(j, pid, first, last) if kind in (11, 13) else j
                place = DIRECTIONS + 2 * (partons + leptons)
                out[place], out[place + 1] = _direction(momenta[at])
                if kind in (11, 13):
                    leptons, lepton = leptons + 1, kind
                else:
                    partons += 1
                    if not (abs(pid[i]) == 6 and kind == 5):
                        flavour = max(flavour, kind)
    return partons, leptons, lepton if leptons > 0 else flavour


@compiled
def _code(parent: int, partons: int, leptons: int, kind: int) -> int:
    """JetClass's number for what a jet was matched to (its aux_truth_match)."""
    if parent == 25:
        if leptons > 0:
            return 46
        if partons == 4:
            return 45
        return 41 if kind == 5 else 42 if kind == 4 else 44 if kind == 21 else 43
    if parent == 6:
        if leptons > 0:
            return 15 if kind == 11 else 16
        return 11 if kind >= 4 else 12
    if parent == 24:
        return 21 if kind >= 4 else 22
    if parent == 23:
        return 31 if kind == 5 else 32 if kind == 4 else 33
    return 50


@compiled
def candidates(
    pid: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    momenta: np.ndarray,
    offsets: np.ndarray,
    parents: np.ndarray,
    partons: int,
    leptons: int,
) -> np.ndarray:
    """What may become a jet, (events, PARTNERS, WIDTH); NaN where a partner of the hard process may not."""
    out = np.full((len(offsets) - 1, PARTNERS, WIDTH), np.nan)
    for event in range(len(out)):
        rows = slice(offsets[event], offsets[event + 1])
        a, b, c, p = pid[rows], first[rows], last[rows], momenta[rows]
        for partner in range(PARTNERS):
            start = 5 + partner
            if not np.any(parents == abs(a[start])):
                continue
            row = out[event, partner]
            quark = abs(a[start]) <= 5 or a[start] == 21
            if quark:
                at = _unsplit(start, b, c, a)
                row[DIRECTIONS], row[DIRECTIONS + 1] = _direction(p[at])
                found = 1, 0, 0
            else:
                at = _final(start, a, b, c)
                found = _products(start, a, b, c, p, row)
            if found[0] != partons or found[1] != leptons:
                row[:] = np.nan
                continue
            row[PT] = np.hypot(p[at, 0], p[at, 1])
            row[ETA], row[PHI] = _direction(p[at])
            row[PID], row[CODE] = a[at], _code(abs(a[at]), found[0], found[1], found[2])
    return out
