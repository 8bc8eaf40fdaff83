"""Hosts, for a class that has none: what stands for ssh starts a shell here, and says in WHERE whom it plays.

--ssh-executable with {host} in it is the whole command that leads to a host; microscoop adds the one word `sh`. So two
shells start here, each is fed a Python and an agent as if it were far away, and each agent forks two workers. Look at
`ps axf` meanwhile, and at what -v says. With hosts of your own: leave out that option, and name them.

    $ python3 -m microscoop -n 4 --ssh-executable "env WHERE={host}" --host earth mars examples/09_hosts.py
    earth: 1 agent, the parent of its workers
    mars: 1 agent, the parent of its workers
"""
import os
import time

from microscoop import futures


def where(_):
    """Which host's worker runs this, and who has forked it."""
    time.sleep(0.02)
    return os.environ.get("WHERE", "here"), os.getppid()


if __name__ == "__main__":
    found = set(futures.map(where, range(60)))
    for host in sorted({host for host, _ in found}):
        agents = [agent for name, agent in found if name == host]
        print(f"{host}: {len(agents)} agent, the parent of its workers")
