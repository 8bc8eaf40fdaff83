"""A script with a module, a package and a data file beside it.

The modules that it imports from its own folder go along to the hosts by themselves. A data file is named with
`--send examples/08_folder/sites.csv`; tasks find it in its place beside the script, wherever they run.

    $ python3 -m microscoop -n 3 --send examples/08_folder/sites.csv examples/08_folder/survey.py
    the oak: 28.27 m2
    the well: 3.00 m2
    the barn: 96.00 m2
"""
import os

from areas import area
from shapes.kinds import read

from microscoop import futures


def survey(line):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "sites.csv")) as file:
        name, shape = read(file.readlines()[line])
    return f"{name}: {area(shape):.2f} m2"


if __name__ == "__main__":
    print("\n".join(futures.map(survey, range(1, 4))))
