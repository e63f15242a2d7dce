"""What is compared: techniques, recipes, arms, plans and claims."""
