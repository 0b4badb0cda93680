"""How draftd's queue compares with other Python queues on PostgreSQL, and with the least that any of them must do.

contender    what is measured: a queue behind one small interface, and the job that its worker process is given
contenders/  draftd, the floor, and each peer as its own documentation recommends
worker       the entry of a worker process
process      worker processes as the benchmark sees them: start, kill, CPU, memory
course       one contender's database and worker, brought to the start of a measurement
drain, pickup, idle, sleeping, recovery
             one figure each; how it is measured stands in the module's docstring
plan         how much of everything, quick and full
report       the table
"""
