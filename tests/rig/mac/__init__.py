"""The macOS commands of a test host: one small program, split by noun.

It runs inside the host with `python -I -S`, so it knows nothing but the standard library and
`/.rig`, where the host's state is. What it shows of networks is real: it reads and sets the
host's own interfaces. Output has the form of Apple's programs, faults included.
"""
