"""Friendly names for runs, such as `brave-otter`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

__all__ = ["ANIMALS", "QUALITIES", "free_name", "name_for"]

QUALITIES = tuple(
    """
    able amber ample azure balmy bold brave breezy bright brisk calm candid cheery civil clear clever cosmic cosy
    crisp daring deft eager early easy fair famous fancy fast fine fond frank free fresh gentle giant glad golden
    good grand great green happy hardy hasty honest humble ideal jolly keen kind large light lively loyal lucky
    mellow merry mild modest neat nimble noble novel polite proud prime quick quiet rapid ready royal rustic
    serene sharp shiny silent silver smart snug solid spry stable steady still sturdy subtle sunny super swift
    tidy tough true vivid warm wise witty
    """.split()  # noqa: SIM905 - easier to read and to change than quoted words
)
ANIMALS = tuple(
    """
    ant auk badger bat bear beaver bee beetle bison boar bream carp cat cod colt crab crane cricket crow deer
    dingo dove duck eagle eel egret elk falcon ferret finch fox frog gecko gibbon goat goose gull hare hawk heron
    hornet horse husky ibex ibis impala jackal jay kite kiwi koala lark lemur lion lizard llama lynx macaw magpie
    marten mink mole moose moth mouse newt ocelot orca osprey otter owl ox panda parrot perch pigeon pika plover
    pony puffin puma quail rabbit raven robin salmon seal shrew skunk sloth snail sparrow squid stork swan tapir
    tern tiger toad trout turtle viper vole walrus wasp weasel whale wolf wombat wren yak zebra
    """.split()  # noqa: SIM905 - easier to read and to change than quoted words
)
_TRIES = 20


def name_for(number: int) -> str:
    """Give the name with a number: each of the first `len(QUALITIES) * len(ANIMALS)` numbers has its own."""
    quality, animal = divmod(number, len(ANIMALS))
    round_, quality = divmod(quality, len(QUALITIES))
    return f"{QUALITIES[quality]}-{ANIMALS[animal]}" + (f"-{round_ + 1}" if round_ else "")


async def free_name(is_taken: Callable[[str], Awaitable[bool]], random: Callable[[], float]) -> str:
    """Give a name that is not taken. `random` gives numbers from 0 to 1."""
    names = len(QUALITIES) * len(ANIMALS)
    number = int(random() * names)
    for _ in range(_TRIES):
        if not await is_taken(name_for(number % names)):
            return name_for(number % names)
        number += 1 + int(random() * names)
    number %= names
    while await is_taken(name_for(number)):
        number += names  # the same words with the next number
    return name_for(number)
