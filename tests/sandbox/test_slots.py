"""A bounded number of steps runs at once; the others wait in the order of arrival."""

from sandbox.slots import Slots


async def test_places_are_served_in_order() -> None:
    slots = Slots(1)
    first, second, third = slots.queue(), slots.queue(), slots.queue()
    assert (first.done(), second.done(), slots.queue_depth) == (True, False, 2)
    slots.leave(first)
    assert (second.done(), third.done()) == (True, False)
    slots.leave(second)
    assert third.result()


async def test_a_place_given_up_frees_nothing_and_blocks_nobody() -> None:
    slots = Slots(1)
    first, second, third = slots.queue(), slots.queue(), slots.queue()
    second.set_result(False)
    slots.leave(second)
    assert not third.done()
    third.cancel()
    slots.leave(third)
    slots.leave(first)
    assert slots.queue().done()
    assert not slots.queue().done()
