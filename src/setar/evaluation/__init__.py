"""Features and metrics: how good are the pictures?"""
