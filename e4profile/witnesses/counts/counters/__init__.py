"""Stock counters, one file each: its ``COUNTER`` registers it (see ``e4profile.witnesses.counts.registry``)."""
