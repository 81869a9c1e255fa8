"""`attention-ref mechanisms`: the catalog of the layers and networks around attention."""

from attention_ref.cli.rules import print_mechanisms


def add_arguments(parser):
    """It takes none."""


def run(args):
    print_mechanisms()
    return 0
