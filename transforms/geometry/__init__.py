"""Geometry of one picture: from a depth map and masks to points, a ground frame, boxes and distances.

Pure functions over numpy arrays. Camera frame: OpenCV (x right, y down, z forward). World frame: z up,
ground at z = 0. Metres, radians, pixels. Point arrays are (n, 3) float64; those made here are
column-contiguous, so that an operation along one axis of space reads memory in order.
"""
