"""The web server: the application, its middleware, login, and the routes of images."""
