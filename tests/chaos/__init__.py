"""A walk at random through all that people, machines and other programs do to a cluster.

On real test hosts (tests/rig) with light ranks: `python -m chaos --steps 150 --seed 1` draws a rule
(rules.py) for each step, does it, and then holds all invariants (invariants.py) against the real
processes and files of the hosts, which it reads past ssh. What was done is printed step by step,
so that a run ends as the list of what led to its finding. `--bug NAME` seeds a bug (bugs.py) into a
copy of this checkout and runs the walk there: each must be found.

Not hypothesis' RuleBasedStateMachine, though these are its rules, preconditions and invariants: it
runs a failing example again, to shrink it and to report it, and calls it flaky where that differs.
Here a step takes seconds of real hosts, time is part of the fault, and an example that fails takes
minutes once more to say what was already seen. Its first example is that of the simplest draws,
too: with one example of 150 steps it is the only one. What is drawn here depends on the seed and on
what was drawn before and how that ended, never on how fast a machine is.
"""
