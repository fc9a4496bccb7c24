#!/usr/bin/env python3
"""Decodes histograms with the HdrHistogram implementation in Python, as JSON.

    hdr_decode.py --hdr-v2 TEXT         the `hdr_v2` of a latency series
    hdr_decode.py --hlog FILE [--tag T] an interval log: all intervals, or those of one tag, added up

Needs the PyPI package `hdrhistogram` (0.10.8 was tried). Prints {"total", "counts": [[lowest value of the bucket,
count], …]}, for an interval log also "intervals" and "start_seconds".
"""

import argparse
import json
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

LOWEST_NS, HIGHEST_NS, DIGITS = 1, 60_000_000_000, 3


def counts_of(histogram):
    """The buckets in use, by the lowest value that each holds."""
    counts = []
    for index in range(histogram.counts_len):
        count = histogram.get_count_at_index(index)
        if count:
            counts.append([histogram.get_value_from_index(index), count])
    return {"total": histogram.get_total_count(), "counts": counts}


def decode_text(text):
    """One histogram."""
    return counts_of(HdrHistogram.decode(text))


def decode_log(path, tag):
    """The sum of the intervals of a log."""
    total = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
    reader = HistogramLogReader(path, total)
    intervals = 0
    while (interval := reader.get_next_interval_histogram()) is not None:
        if tag is None or interval.get_tag() == tag:
            total.add(interval)
            intervals += 1
    reader.close()
    start = reader.get_start_time_sec()
    return {"intervals": intervals, "start_seconds": start, **counts_of(total)}


def main():
    """Parses, decodes, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--hdr-v2", metavar="TEXT", help="the text, or - to read it from stdin")
    source.add_argument("--hlog", metavar="FILE")
    parser.add_argument("--tag", help="only intervals of this tag")
    options = parser.parse_args()
    if options.hlog:
        decoded = decode_log(options.hlog, options.tag)
    else:
        text = sys.stdin.read().strip() if options.hdr_v2 == "-" else options.hdr_v2
        decoded = decode_text(text)
    json.dump(decoded, sys.stdout)
    print()


if __name__ == "__main__":
    main()
