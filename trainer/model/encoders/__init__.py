"""Vision encoders behind one interface, `base.VisionEncoder`."""
