"""The parts that figures are drawn from: cells, colors, labels, legends."""
