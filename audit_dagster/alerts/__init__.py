"""What failed, fell silent or took too long becomes messages to people: the rules, the texts and the delivery."""
