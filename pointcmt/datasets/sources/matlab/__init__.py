"""Files of MATLAB, in which SUN RGB-D is described."""
