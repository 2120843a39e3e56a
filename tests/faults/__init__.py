"""The fault harness: runs that are killed, cut off and starved, and one function that says whether anything was lost.

`invariants.check_invariants` judges; `endpoint` is the simulator as a process of its own, so that its ledger survives;
`lives` starts runs that acknowledge what was saved, and kills them. The other modules are the faults.
"""
