"""Published solutions turned into step programs, from which a pretrained policy learns the step format."""
