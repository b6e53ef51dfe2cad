"""Earlier histories of a lab become log entries: Markdown execution logs and the table `tool_call_logs`."""
