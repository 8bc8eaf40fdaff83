"""Minimisation with SciPy: differential evolution, whose every generation is one futures.map.  It needs scipy.

    $ python3 -m microscoop -n 3 examples/clients_scipy.py
    minimum 0.000 at [1. 1. 1.] after 292 generations
"""
from scipy.optimize import differential_evolution, rosen

from microscoop import futures

if __name__ == "__main__":
    found = differential_evolution(rosen, [(0, 2)] * 3, rng=1, updating="deferred", workers=futures.map)
    print(f"minimum {abs(found.fun):.3f} at {found.x.round(3)} after {found.nit} generations")
