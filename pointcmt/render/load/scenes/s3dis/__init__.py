"""S3DIS: rooms from annotation files, and frames of 2D-3D-S."""
