"""Names of runs."""

from __future__ import annotations

from wfe.cli.names import ANIMALS, QUALITIES, free_name, name_for


def test_every_number_has_a_name_of_its_own() -> None:
    """No two numbers share a name, also beyond all pairs of words."""
    numbers = range(2 * len(QUALITIES) * len(ANIMALS))

    names = {name_for(number) for number in numbers}

    assert len(names) == len(numbers)
    assert name_for(0) == f"{QUALITIES[0]}-{ANIMALS[0]}"


def test_words_are_plain() -> None:
    """Every word can be typed and quoted anywhere: small letters only, none twice in its list."""
    for words in (QUALITIES, ANIMALS):
        assert all(word.isascii() and word.isalpha() and word.islower() for word in words)
        assert len(set(words)) == len(words)


async def test_taken_names_are_passed_over() -> None:
    """A name that is taken is not given again, however unlucky the random numbers are."""
    taken: set[str] = set()

    async def is_taken(name: str) -> bool:
        return name in taken

    for _ in range(200):
        taken.add(await free_name(is_taken, lambda: 0.0))

    assert len(taken) == 200


async def test_a_full_list_goes_on_with_numbers() -> None:
    """When every pair of words is taken, a number follows the words."""
    every_pair = len(QUALITIES) * len(ANIMALS)
    taken = {name_for(number) for number in range(every_pair)}

    async def is_taken(name: str) -> bool:
        return name in taken

    name = await free_name(is_taken, lambda: 0.5)

    assert name not in taken
    assert name.endswith("-2")
