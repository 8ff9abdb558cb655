"""Files of users or pairs in, files of answers out: bounded memory, whole parts, the same bytes each time.

A job is planned once (`plan`), text inputs are staged as Parquet (`staging`), and the input is cut into
fragments. A fragment makes one part of the output (`fragments.FragmentRunner`), with the same bytes in every
process, so a part may be done twice. `run.run_job` gives fragments to an `engine`, and its name to the
finished folder.
"""
