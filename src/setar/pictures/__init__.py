"""Pictures for people to look at: sheets, plans, masks, reconstructions, animations."""
