"""`attention-ref explain CASE`: its inputs, and what should come out."""

from attention_ref.oracle.cases.explain import explain


def add_arguments(parser):
    parser.add_argument("case", metavar="CASE", help="the name of a case")
    parser.add_argument("--rule", default="scaled_dot", help="the attention rule (default: scaled_dot)")
    parser.add_argument("--dtype", default="float32", help="the dtype of the inputs (default: float32)")
    parser.add_argument("--seed", type=int, default=0)


def run(args):
    print(explain(args.case, args.rule, args.dtype, args.seed))
    return 0
