"""Work that runs elsewhere: one setting as plain data, and arrays of jobs that share a folder of records."""
