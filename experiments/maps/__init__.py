"""The maps of the lab, a folder each: `compute` (settings and data), `claims`, `figure`."""
