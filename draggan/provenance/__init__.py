"""Where what was made comes from: the marks that files carry, the record of what left, what people have agreed to."""
