"""APIs for programs: REST, named Gradio endpoints and MCP tools over one LibraryService."""
