"""Integrable flows without time steps."""
