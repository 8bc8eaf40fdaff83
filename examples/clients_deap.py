"""Evolution with DEAP: a population whose fitness is computed by futures.map, then islands that are tasks themselves.

An island's task is sent DEAP's whole toolbox, `futures.map` in it, and maps in its turn.  Each has a seed of its own,
so every -n gives the same answer.  It needs the package deap.

    $ python3 -m microscoop -n 3 examples/clients_deap.py
    one population: 59 of 60
    four islands: 60, 59, 60, 60 of 60
"""
import random
from functools import partial

from deap import algorithms, base, creator, tools

from microscoop import futures

creator.create("Fitness", base.Fitness, weights=(1.0,))
creator.create("Individual", list, fitness=creator.Fitness)


def ones(individual):
    return sum(individual),


def generation(seed, island, evolve):
    """The island, one generation later."""
    random.seed(seed)
    return evolve(island)[0]


def best(population):
    return int(tools.selBest(population, 1)[0].fitness.values[0])


toolbox = base.Toolbox()
toolbox.register("bit", random.randint, 0, 1)
toolbox.register("individual", tools.initRepeat, creator.Individual, toolbox.bit, n=60)
toolbox.register("population", tools.initRepeat, list, toolbox.individual)
toolbox.register("evaluate", ones)
toolbox.register("mate", tools.cxTwoPoint)
toolbox.register("mutate", tools.mutFlipBit, indpb=0.02)
toolbox.register("select", tools.selTournament, tournsize=3)
toolbox.register("map", futures.map)

if __name__ == "__main__":
    random.seed(1)
    population, _ = algorithms.eaSimple(toolbox.population(n=60), toolbox, 0.5, 0.5, 30, verbose=False)
    print("one population:", best(population), "of 60")

    islands = [algorithms.eaSimple(toolbox.population(n=20), toolbox, 0, 0, 0, verbose=False)[0] for _ in range(4)]
    toolbox.register("evolve", algorithms.eaSimple, toolbox=toolbox, cxpb=0.5, mutpb=0.5, ngen=1, verbose=False)
    for round in range(30):
        seeds = range(4 * round, 4 * round + 4)
        islands = list(toolbox.map(partial(generation, evolve=toolbox.evolve), seeds, islands))
        tools.migRing(islands, 2, tools.selBest)
    print("four islands:", ", ".join(str(best(island)) for island in islands), "of 60")
