"""One call, from q to o and back: attention, its options, positions and masks, tiles."""
