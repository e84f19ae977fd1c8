"""What is generated when: orders, schedules, clocks and the recipes that name them."""
