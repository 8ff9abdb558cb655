"""Files of users or pairs in, files of answers out: bounded memory, whole parts, the same bytes each time.

A job is planned once (`plan.make_plan`): which files, cut into which fragments. One fragment of the input
makes one part of the output, whoever does it (`work.do_fragment`), so every engine writes the same bytes, and
a part that is done twice is the same part. `run.run_job` gives fragments to an engine, and the finished
folder its name.
"""
