"""The demo model: the programs that draw its scenes, train it and measure it. The app needs demo/model alone."""
