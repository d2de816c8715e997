"""The faces for programs: REST, named Gradio endpoints and MCP tools over one Library, and what keeps strangers out."""
