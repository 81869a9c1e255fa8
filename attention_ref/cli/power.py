"""`attention-ref power`: plant faults in correct kernels, and count those that a check finds and names."""

from pathlib import Path

from attention_ref.oracle.power import power


def add_arguments(parser):
    parser.add_argument("--rule", default="scaled_dot", help="the attention rule (default: scaled_dot)")
    parser.add_argument("--cases", default="core", help="as for check (default: core)")
    parser.add_argument("--dtype", default="float32", help="float64, float32, bfloat16 or float16 (default: float32)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the outcomes as JSON")


def run(args):
    outcomes = power(args.rule, args.cases, args.dtype, seed=args.seed)
    print(outcomes)
    if args.json:
        Path(args.json).write_text(outcomes.to_json(), encoding="utf-8")
    return 0
