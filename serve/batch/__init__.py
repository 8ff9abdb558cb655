"""Batch jobs: files of users or pairs in, a folder of answers out.

`plan` fixes what a job writes; `staging` copies text inputs to Parquet. The input is cut into fragments, and
each fragment makes one part of the output (`fragments`), with the same bytes in every process. `run.run_job`
gives the fragments to an engine and moves the finished folder into place.
"""
