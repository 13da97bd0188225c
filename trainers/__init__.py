"""Models and how they are trained: streams of blocks, learners, the one loop, and Ray Train around it."""
