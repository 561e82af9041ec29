"""One file per stage. A stage reads and writes artefacts of a run directory and holds no maths."""
