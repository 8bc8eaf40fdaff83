"""Nested tasks: each submits two children and waits for them, down to depth 10.

Any number of workers will do: a task that waits does not keep its worker from running its children.

    $ python3 -m microscoop -n 3 examples/05_tree.py
    2047 tasks
"""
from microscoop import futures


def tree(depth):
    """The number of tasks from here down."""
    if depth == 0:
        return 1
    children = [futures.submit(tree, depth - 1) for _ in range(2)]
    return 1 + sum(child.result() for child in children)


if __name__ == "__main__":
    print(futures.submit(tree, 10).result(), "tasks")
